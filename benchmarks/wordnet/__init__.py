"""Fine-tuning a pretrained encoder with DP: MiniLM on the noun glosses of WordNet.

``python -m benchmarks.wordnet --help`` says how to run it, docs/finetuning.md what came out.
"""
