print("gwd")
