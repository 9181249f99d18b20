"""What is shown of records: tables, pictures, and the folder of both."""
