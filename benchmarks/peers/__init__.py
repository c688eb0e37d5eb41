"""Other libraries doing the same work, one file each, written as their users write it."""
