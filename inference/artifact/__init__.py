"""One file for a compiled model, or for weights alone: safetensors with a JSON header.

`keys` names what the format has, `codec` is one tensor, `container` one file, `graph_json` the layers.
`source` is what a compiled model keeps in order to be saved.
"""
