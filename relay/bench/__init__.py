"""The benchmark: a relay on one core, a crowd of telephones on the other, and what became of every stream."""
