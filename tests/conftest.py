"""Lets tests in every folder import the modules that lie beside this file."""
