"""The decoder in Keras 3: pure block functions, the layers that own their weights, and runners for each backend."""
