import Engines
import IKEControl
import IPsec

/// The numbers of SAs on disk, for `NumberLedger`. Keys are not in it: each is known by an HMAC under the file's own
/// secret. Control thread.
///
/// 64 bytes: a mark, the secret, zeros; then records of 32 bytes: fingerprint, number, kind, zeros. Of several records of
/// one name the highest number holds. The last record may be cut short by a crash: nobody was told that it stands.
final class SequenceJournal: NumberJournal {
  private static let mark = Array("gwd numbers 1\n\0\0".utf8)
  private static let headerLength = 64
  private static let recordLength = 32

  let secret: SecretBytes
  /// As the last process left them.
  let records: [NumberRecord]
  private let file: AppendFile
  private(set) var recordCount = 0

  init(path: String, calls: PrivateFile.Calls = PrivateFile.Calls()) throws(GatewayError) {
    file = AppendFile(path: path, calls: calls)
    let bytes: [UInt8]?
    do throws(PrivateFile.Failure) { bytes = try AppendFile.contents(of: path) } catch {
      throw .file(error.path, error.reason)
    }
    guard let bytes else {
      (secret, records) = (Fingerprinter.makeSecret(), [])
      return
    }
    guard bytes.count >= Self.headerLength, bytes.starts(with: Self.mark) else {
      throw .file(path, "it does not say which sequence numbers were used: remove it if all keys are new since")
    }
    secret = SecretBytes(bytes[Self.mark.count..<Self.mark.count + Fingerprinter.secretLength])
    records = Self.records(bytes)
  }

  private static func records(_ bytes: [UInt8]) -> [NumberRecord] {
    bytes.withUnsafeBytes { bytes in
      stride(from: headerLength, through: bytes.count - recordLength, by: recordLength).compactMap { offset in
        func word(_ index: Int) -> UInt64 { bytes.loadUnaligned(fromByteOffset: offset + 8 * index, as: UInt64.self) }
        guard let kind = NumberRecord.Kind(rawValue: bytes[offset + 24]) else { return nil }
        return NumberRecord(name: Fingerprint(high: word(0), low: word(1)), kind: kind, number: word(2))
      }
    }
  }

  private static func bytes(_ records: [NumberRecord]) -> [UInt8] {
    var bytes: [UInt8] = []
    bytes.reserveCapacity(records.count * recordLength)
    for record in records {
      for word in [record.name.high, record.name.low, record.number, UInt64(record.kind.rawValue).littleEndian] {
        withUnsafeBytes(of: word) { bytes += $0 }
      }
    }
    return bytes
  }

  // MARK: NumberJournal

  var takesMore: Bool { file.isOpen }

  func append(_ records: [NumberRecord], isSynced: Bool) throws(NumberJournalError) {
    do throws(PrivateFile.Failure) { try file.append(Self.bytes(records), syncing: isSynced) } catch {
      throw NumberJournalError("\(error)")
    }
    recordCount += records.count
  }

  func replace(_ records: [NumberRecord]) throws(NumberJournalError) {
    var bytes = Self.mark + secret.bytes
    bytes += [UInt8](repeating: 0, count: Self.headerLength - bytes.count)
    do throws(PrivateFile.Failure) { try file.replace(bytes + Self.bytes(records)) } catch {
      throw NumberJournalError("\(error)")
    }
    recordCount = records.count
  }
}
