"""Labels for other programs and from them: DIY-SC's annotation files, folders that Hugging Face ``datasets`` loads, and the label card."""
