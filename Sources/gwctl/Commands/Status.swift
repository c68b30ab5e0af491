import ArgumentParser

/// `gwctl status`: short for `gwctl show status`.
struct Status: ParsableCommand {
  static let configuration = CommandConfiguration(abstract: "The gateway as a whole.")

  @OptionGroup var global: GlobalOptions
  @OptionGroup var options: ShowOptions

  func run() throws { try ShowStatus.report(global, options) }
}
