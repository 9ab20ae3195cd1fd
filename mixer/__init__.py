"""The crosspoint mixer: states to matrix, matrix to sound, numpy and nothing else."""
