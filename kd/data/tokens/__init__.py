"""Text as data: sources, tokenisation, batches of a few lengths, masked words.

What a model of tokens reads is an array ``[b l 2]`` int32: ``[..., 0]`` is the token, ``[..., 1]``
the segment: 0 is padding, 1 the first text, 2 the second of a pair; in packed text it is the number
of the document in its row, from 1. Attention is between positions of segments above 0 (in packed
text of one segment), BERT's token types are the segment less 1.
"""
