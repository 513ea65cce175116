"""Dashboards, alert and recording rules, and their provisioning. `builder` makes the files from one source."""
