"""One module per convention for writing agent telemetry; raw attribute names appear only here."""
