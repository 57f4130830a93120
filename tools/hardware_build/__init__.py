"""What turns hardware/<node>/node.toml into pins, wiring diagram, bill of materials, power budget, page and enclosure."""
