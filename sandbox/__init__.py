"""A fake Salesforce org and HubSpot portal over real HTTP."""
