import IPsec

/// What of the gateway's state cannot be written at the moment, and what that means.
struct StateTrouble: Equatable {
  var numbers: String?
  var policies: String?
  var heldSAs = 0

  var isNone: Bool { numbers == nil && policies == nil && heldSAs == 0 }

  /// A sentence for each.
  var sentences: [String] {
    var sentences: [String] = []
    if let numbers { sentences.append("sequence numbers cannot be reserved: \(numbers)") }
    if heldSAs > 0 {
      sentences.append("\(heldSAs) SAs have used all numbers that are reserved and carry nothing until there are more")
    }
    if let policies {
      sentences.append("policies of key daemons cannot be written and would not stand after a crash: \(policies)")
    }
    return sentences
  }
}

extension Gateway {
  var stateTrouble: StateTrouble {
    StateTrouble(numbers: database.numberFailure, policies: policyJournal.failure, heldSAs: database.heldSAs)
  }

  /// Once for each change.
  func tellOfState() {
    let trouble = stateTrouble
    guard trouble != toldOfState else { return }
    let old = Set(toldOfState.sentences)
    for sentence in trouble.sentences where !old.contains(sentence) { logger.error("\(sentence)") }
    if trouble.isNone { logger.notice("state-dir is written again, and all SAs go on") }
    toldOfState = trouble
  }
}
