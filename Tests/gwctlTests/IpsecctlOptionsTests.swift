import Testing

@testable import gwctl

@Suite struct IpsecctlOptionsTests {
  @Test func lettersAreBundledAndValuesAttached() throws {
    let options = try IpsecctlOptions(["-ndvv", "-Da=b", "-D", "c=d", "-kf/etc/x", "-i", "fifo", "-sfl", "-cmF"])
    var expected = try IpsecctlOptions(["-n"])
    expected.deletes = true
    expected.verbosity = 2
    expected.macros = ["a=b", "c=d"]
    expected.showsKeys = true
    expected.rulesFile = "/etc/x"
    expected.fifo = "fifo"
    expected.listing = .flow
    expected.collapses = true
    expected.monitors = true
    expected.flushes = true
    #expect(options == expected)
  }

  @Test func aDoubleDashEndsOptionsAndADashIsAValue() throws {
    #expect(try IpsecctlOptions(["-f", "-", "--"]).rulesFile == "-")
  }

  @Test(
    arguments: [
      ([], nil), (["-q"], "unknown option -- q"), (["-n", "-f"], "option requires an argument -- f"),
      (["-s", "flows"], "Unknown show modifier 'flows'"), (["-s", ""], "Unknown show modifier ''"),
      (["x", "-n"], "unknown command line argument: x ..."), (["--", "-n"], "unknown command line argument: -n ..."),
      (["-"], "unknown command line argument: - ..."),
    ] as [([String], String?)])
  func errorsHaveOpenBSDsWords(_ arguments: [String], _ message: String?) {
    #expect(throws: IpsecctlOptions.UsageError(message: message)) { try IpsecctlOptions(arguments) }
  }

  @Test(arguments: [("f", IpsecctlOptions.Listing.flow), ("s", .sa), ("a", .all), ("all", .all), ("sa", .sa)])
  func listingsMayBeShortened(_ text: String, _ listing: IpsecctlOptions.Listing) throws {
    #expect(try IpsecctlOptions(["-s", text]).listing == listing)
  }
}
