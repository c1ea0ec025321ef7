"""From a catalogue entry to modules on a device: finding, fetching, checking, loading and placing models."""
