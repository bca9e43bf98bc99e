"""Models and data sets of the Hugging Face hub as local files, and checks of a model's folder."""
