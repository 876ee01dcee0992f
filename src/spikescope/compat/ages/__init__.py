"""Classes and functions with the arguments and defaults of the ages that had them; the equations are ours."""
