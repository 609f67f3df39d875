"""What goes over the wire: one model per direction."""
