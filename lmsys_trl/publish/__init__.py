"""Cards of data sets and judges, and pushes to the Hub."""
