"""What the orchestrator needs from outside, as protocols; and what the pages may ask of trading.

Adapters stand beside this package, never below it. Names are imported from here; `desk`, `records`, `repositories`, `venue`, `vault`, `logins`,
`rows` and `reads` only keep them in readable pieces.
"""

from orchestrator.core.order import Refusal as Refusal
from orchestrator.core.order import RefusalReason as RefusalReason
from orchestrator.ports.desk import (
    Amended as Amended,
)
from orchestrator.ports.desk import (
    Bus as Bus,
)
from orchestrator.ports.desk import (
    Clock as Clock,
)
from orchestrator.ports.desk import (
    Closed as Closed,
)
from orchestrator.ports.desk import (
    Desk as Desk,
)
from orchestrator.ports.desk import (
    Entered as Entered,
)
from orchestrator.ports.desk import (
    Ids as Ids,
)
from orchestrator.ports.desk import (
    Jobs as Jobs,
)
from orchestrator.ports.desk import (
    PanicReceipt as PanicReceipt,
)
from orchestrator.ports.desk import (
    ScannedCloses as ScannedCloses,
)
from orchestrator.ports.desk import (
    Stopped as Stopped,
)
from orchestrator.ports.desk import (
    SymbolResult as SymbolResult,
)
from orchestrator.ports.logins import (
    Credentials as Credentials,
)
from orchestrator.ports.logins import (
    Logins as Logins,
)
from orchestrator.ports.logins import (
    NewUser as NewUser,
)
from orchestrator.ports.logins import (
    Preferences as Preferences,
)
from orchestrator.ports.logins import (
    SentForms as SentForms,
)
from orchestrator.ports.logins import (
    Session as Session,
)
from orchestrator.ports.logins import (
    SettingsChanges as SettingsChanges,
)
from orchestrator.ports.logins import (
    Throttle as Throttle,
)
from orchestrator.ports.reads import (
    LiveLog as LiveLog,
)
from orchestrator.ports.reads import (
    LiveMessage as LiveMessage,
)
from orchestrator.ports.reads import (
    Mark as Mark,
)
from orchestrator.ports.reads import (
    MarketSource as MarketSource,
)
from orchestrator.ports.reads import (
    Prices as Prices,
)
from orchestrator.ports.reads import (
    Reads as Reads,
)
from orchestrator.ports.records import (
    ClaimRecord as ClaimRecord,
)
from orchestrator.ports.records import (
    FillRecord as FillRecord,
)
from orchestrator.ports.records import (
    ForeignRecord as ForeignRecord,
)
from orchestrator.ports.records import (
    FundingRecord as FundingRecord,
)
from orchestrator.ports.records import (
    LedgerRecord as LedgerRecord,
)
from orchestrator.ports.records import (
    OrderRecord as OrderRecord,
)
from orchestrator.ports.records import (
    PositionRecord as PositionRecord,
)
from orchestrator.ports.records import (
    ReceiptRecord as ReceiptRecord,
)
from orchestrator.ports.records import (
    RefusalRecord as RefusalRecord,
)
from orchestrator.ports.records import (
    ScanRecord as ScanRecord,
)
from orchestrator.ports.records import (
    SignalRecord as SignalRecord,
)
from orchestrator.ports.records import (
    Trader as Trader,
)
from orchestrator.ports.records import (
    TruthRecord as TruthRecord,
)
from orchestrator.ports.repositories import (
    Audit as Audit,
)
from orchestrator.ports.repositories import (
    Claims as Claims,
)
from orchestrator.ports.repositories import (
    Fills as Fills,
)
from orchestrator.ports.repositories import (
    Foreign as Foreign,
)
from orchestrator.ports.repositories import (
    Fundings as Fundings,
)
from orchestrator.ports.repositories import (
    Ledger as Ledger,
)
from orchestrator.ports.repositories import (
    Orders as Orders,
)
from orchestrator.ports.repositories import (
    Positions as Positions,
)
from orchestrator.ports.repositories import (
    Receipts as Receipts,
)
from orchestrator.ports.repositories import (
    Refusals as Refusals,
)
from orchestrator.ports.repositories import (
    Scans as Scans,
)
from orchestrator.ports.repositories import (
    Signals as Signals,
)
from orchestrator.ports.repositories import (
    Traders as Traders,
)
from orchestrator.ports.repositories import (
    Transactions as Transactions,
)
from orchestrator.ports.repositories import (
    Truths as Truths,
)
from orchestrator.ports.repositories import (
    UnitOfWork as UnitOfWork,
)
from orchestrator.ports.rows import (
    Account as Account,
)
from orchestrator.ports.rows import (
    AdminUserRow as AdminUserRow,
)
from orchestrator.ports.rows import (
    ApprovalRow as ApprovalRow,
)
from orchestrator.ports.rows import (
    Decision as Decision,
)
from orchestrator.ports.rows import (
    EquityPoint as EquityPoint,
)
from orchestrator.ports.rows import (
    FillRow as FillRow,
)
from orchestrator.ports.rows import (
    ForeignRow as ForeignRow,
)
from orchestrator.ports.rows import (
    LedgerPage as LedgerPage,
)
from orchestrator.ports.rows import (
    LedgerRow as LedgerRow,
)
from orchestrator.ports.rows import (
    PositionRow as PositionRow,
)
from orchestrator.ports.rows import (
    RealAccounts as RealAccounts,
)
from orchestrator.ports.rows import (
    RealRow as RealRow,
)
from orchestrator.ports.rows import (
    ReceiptRow as ReceiptRow,
)
from orchestrator.ports.rows import (
    ScanRow as ScanRow,
)
from orchestrator.ports.rows import (
    SignalRow as SignalRow,
)
from orchestrator.ports.rows import (
    SignalView as SignalView,
)
from orchestrator.ports.rows import (
    Statistics as Statistics,
)
from orchestrator.ports.rows import (
    Stats as Stats,
)
from orchestrator.ports.rows import (
    UserRow as UserRow,
)
from orchestrator.ports.vault import (
    FactorRow as FactorRow,
)
from orchestrator.ports.vault import (
    FactorVault as FactorVault,
)
from orchestrator.ports.vault import (
    KeyVault as KeyVault,
)
from orchestrator.ports.vault import (
    SealedRow as SealedRow,
)
from orchestrator.ports.vault import (
    Sealer as Sealer,
)
from orchestrator.ports.venue import (
    Balances as Balances,
)
from orchestrator.ports.venue import (
    Engine as Engine,
)
from orchestrator.ports.venue import (
    Lease as Lease,
)
from orchestrator.ports.venue import (
    Lifeline as Lifeline,
)
from orchestrator.ports.venue import (
    Mutex as Mutex,
)
from orchestrator.ports.venue import (
    Wallet as Wallet,
)
