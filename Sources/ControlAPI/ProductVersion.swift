/// The version of gwd, gwctl and the API between them: stated here alone.
public enum ProductVersion {
  public static let current = "0.1.0"
}
