import ControlAPITesting
import Foundation
import IPsec
import Testing

@testable import ControlAPI

@Suite struct ListSplitterTests {
  private func records(_ count: Int) -> [SARecord] {
    (0..<count).map { number in
      var record = Samples.record
      record.parameters.spi = UInt32(number) + 256
      // What would look like the end of an element, were it not escaped.
      record.parameters.sourceIdentity = Identity(kind: .fqdn, text: "},\n{\"\(number)")
      return record
    }
  }

  /// Fed in pieces of many sizes, the parts together are the list, in order.
  @Test(arguments: [0, 1, 2, 255, 2000]) func partsAreTheList(count: Int) throws {
    let sizes = [1, 7, 40_000, 999, 65_536]
    let text = Data("[".utf8) + (try APICoding.encodeElements(records(count))) + Data("]\n".utf8)
    var splitter = ListSplitter()
    var spis: [UInt32] = []
    var parts = 0
    func read(_ part: Data) throws {
      parts += 1
      spis += try APICoding.decode([SARecord].self, from: part, acceptHiddenKeys: true).map(\.parameters.spi)
    }
    var (rest, pieces) = (text[...], 0)
    while !rest.isEmpty {
      let piece = rest.prefix(sizes[pieces % sizes.count])
      pieces += 1
      rest = rest.dropFirst(piece.count)
      piece.withUnsafeBytes { splitter.append($0) }
      while let part = splitter.next() { try read(part) }
    }
    try read(splitter.rest())
    #expect(spis == records(count).map(\.parameters.spi))
    #expect(parts >= text.count / (2 * ListSplitter.part))
  }

  @Test func aListWithoutLinesIsOnePart() throws {
    let text = try APICoding.encode(records(1000))
    #expect(text.count > ListSplitter.part)
    var splitter = ListSplitter()
    text.withUnsafeBytes { splitter.append($0) }
    #expect(splitter.next() == nil)
    #expect(splitter.rest() == text)
  }
}
