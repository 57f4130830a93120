"""What a node sees, without keeping a picture: `scene.Scene` measures frames, `seal.py` encrypts the one that was asked for."""
