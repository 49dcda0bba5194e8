"""The paper's figures, of any loss of the family and of any run."""
