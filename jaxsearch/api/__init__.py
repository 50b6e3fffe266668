"""The functions of `import jaxsearch`: policies, rollouts and training in memory."""
