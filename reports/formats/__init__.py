"""Pages as files: one page of HTML, and the folder that they are written to."""
