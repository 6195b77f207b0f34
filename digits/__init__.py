"""The reader of photographs, and its networks for the page to draw on; no notebook imports it."""
