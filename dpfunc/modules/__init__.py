"""Where functions meet `torch.nn.Module`.

In: a module.
Out: its parameters as a dict, gradients put back; below: checking/ and mending/.
Read first: `parameters.py`.
"""
