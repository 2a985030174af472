"""The foundation profile: the models of the paper, one module a model, each a plain class and a thin actor around it."""
