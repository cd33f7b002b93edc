"""The sections of a report, one file each: numbers in, charts or a table out."""
