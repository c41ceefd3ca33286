"""CRMs behind one seam of four methods: check, streams, pull, push."""
