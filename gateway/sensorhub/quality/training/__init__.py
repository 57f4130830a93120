"""Training of the model; never imported at run time. Needs the extra `train`."""
