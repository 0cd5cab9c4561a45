"""The published method: first-order optimisers, similarities and stages. The default uses none of it."""
