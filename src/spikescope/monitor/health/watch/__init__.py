"""What health looks at while a network runs, a file a kind of sight."""
