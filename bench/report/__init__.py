"""Reports on records: tables, rankings, plots, and the folder that ``fidmap table --save`` writes."""
