"""From layers of a graph to ops of the native engine."""
