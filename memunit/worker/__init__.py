"""What runs in the app's own interpreter: Python 3.9 and later, standard library only at import."""
