"""Inspections: images of one object, their findings, reviews by persons, and reports.

A store is a folder with a SQLite file, or beside a PostgreSQL database, and files by their SHA-256. What a
model found is never changed: a person's decision is a review beside it. Every change is an event of a chain
of hashes. Needs the extra `inspections`.
"""
