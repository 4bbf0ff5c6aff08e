"""For machines: is it alive, can it work, how does it do."""
