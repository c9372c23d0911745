"""What the frames of an encode answer to their qindexes, learned, and plans made with it.

The linear response model of docs/notes: each frame's change of bits and of error is linear
in its own step and in the errors of its references, with coefficients that depend on what a
base encode says of the frame. numpy alone; nothing of JAX or of the encoder. Import from the
modules.
"""
