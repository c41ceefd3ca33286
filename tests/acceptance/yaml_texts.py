"""Configurations of the acceptance tests, as a user would write them."""

from __future__ import annotations

from tests.fixtures.sandboxes import Sandbox

SALESFORCE = """\
  salesforce:
    type: salesforce
    base_url: {url}
    auth:
      flow: client_credentials
      domain: sandbox.my
      client_id: sandbox-client
      client_secret: "${{SF_SECRET:-sandbox-secret}}"
    every: 2s
    streams:
      deals: {{object: Opportunity}}
      accounts: {{object: Account}}
"""
HUBSPOT = """\
  hubspot:
    type: hubspot
    base_url: {url}
    auth: {{flow: token, token: "${{HUBSPOT_TOKEN:-pat-na1-sandbox}}"}}
    every: 2s
    streams:
      deals: {{object: deals}}
      accounts: {{object: companies}}
"""


def two_crms(
    sandbox: Sandbox,
    *,
    database: str = "sqlite:///kpisync.db",
    broker: str = "",
    approve: str = "never",
) -> str:
    """Both CRMs of a sandbox, KPIs written back to accounts and companies."""
    return f"""\
version: 1
database: "{database}"
broker: "{broker}"
company: {{name: Test Company, currency: USD, timezone: Europe/Berlin}}
connections:
{SALESFORCE.format(url=sandbox.salesforce.url)}{HUBSPOT.format(url=sandbox.hubspot.url)}
kpis: {{use: [sales, customer], periods: [month, quarter, year]}}
writebacks:
  account_kpis:
    to: salesforce.Account
    every: 2s
    fields: {{KPI_Win_Rate__c: win_rate, KPI_Revenue__c: revenue}}
    approve: {approve}
  company_kpis:
    to: hubspot.companies
    every: 2s
    fields: {{kpi_win_rate: win_rate, kpi_revenue: revenue}}
    approve: {approve}
security: {{allow_hosts: [127.0.0.1]}}
advanced: {{retry_wait: 1s, retry_attempts: 2, connect_timeout: 2s, read_timeout: 5s}}
"""
