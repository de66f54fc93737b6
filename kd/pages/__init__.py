"""What people read: tables in the terminal, Markdown, figures, HTML."""
