"""Make the plates in images and videos unreadable."""
