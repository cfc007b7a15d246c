"""What is told about Hive; `make docs` writes the part of it that the code knows best."""
