"""Pytest adds the folder of this file to the path, so that all tests below can import `theory_cases`."""
