"""What carries out an update: our torch backend behind the Backend protocol of ART."""
