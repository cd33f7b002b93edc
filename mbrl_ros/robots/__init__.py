"""Robot descriptions, equations of motion and the PyBullet backend."""
