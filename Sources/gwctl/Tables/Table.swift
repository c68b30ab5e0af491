/// One column of a table: its title, and a row's text in it.
struct Column<Row> {
  enum Side { case left, right }

  let title: String
  let side: Side
  let text: (Row) -> String

  static func left(_ title: String, _ text: @escaping (Row) -> String) -> Column {
    Column(title: title, side: .left, text: text)
  }

  /// For numbers.
  static func right(_ title: String, _ text: @escaping (Row) -> String) -> Column {
    Column(title: title, side: .right, text: text)
  }
}

/// Columns under their titles, two spaces apart.
enum Table {
  static func text<Row>(_ rows: [Row], _ columns: [Column<Row>]) -> String {
    let lines = [columns.map(\.title)] + rows.map { row in columns.map { plain($0.text(row)) } }
    let widths = columns.indices.map { column in lines.map { $0[column].count }.max() ?? 0 }
    return lines.map { line in
      let cells = columns.indices.map { column in
        let padding = String(repeating: " ", count: widths[column] - line[column].count)
        return columns[column].side == .left ? line[column] + padding : padding + line[column]
      }
      return trimmed(cells.joined(separator: "  ")) + "\n"
    }.joined()
  }

  /// Names and reasons are of peers and key daemons, too: none of them moves a cursor.
  static func plain(_ text: String) -> String {
    func isControl(_ scalar: Unicode.Scalar) -> Bool { scalar.value < 0x20 || 0x7f...0x9f ~= scalar.value }
    guard text.unicodeScalars.contains(where: isControl) else { return text }
    return String(String.UnicodeScalarView(text.unicodeScalars.map { isControl($0) ? "?" : $0 }))
  }

  private static func trimmed(_ line: String) -> Substring {
    line.lastIndex { $0 != " " }.map { line[...$0] } ?? ""
  }
}
