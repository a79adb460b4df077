"""A trained model writes: logits become a probability for each next token, and one token after another becomes text.

In: a `Decoder` and its `Tokenizer`, joined as a `LanguageModel`. Out: text, at once or as a stream.
Read first: sampling.py, then language_model.py.
"""
