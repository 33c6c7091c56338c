"""`PrivacyEngine` in the training loops of other packages, which are imported when these are."""
