"""The published language: one module for each owning service, pure data, stored and sent by these names."""
