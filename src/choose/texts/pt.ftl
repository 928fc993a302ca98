title = A sua sessão já está iniciada noutro local
intro =
    { $needed ->
        [one] Para iniciar sessão aqui, termine uma das suas outras sessões.
       *[other] Para iniciar sessão aqui, termine { $needed } das suas outras sessões.
    }
intro-marked =
    { $marked ->
        [one] Pelo menos uma delas tem de ter a indicação “{ mark }”.
       *[other] Pelo menos { $marked } delas têm de ter a indicação “{ mark }”.
    }
mark = Esta aplicação
legend = As suas sessões
device = { $browser } em { $system }
unknown-browser = Navegador desconhecido
unknown-device = Dispositivo desconhecido
last-used = Última utilização: { $ago }
began = Início de sessão: { $ago }
now = agora mesmo
minutes-ago =
    { $count ->
        [one] há { $count } minuto
       *[other] há { $count } minutos
    }
hours-ago =
    { $count ->
        [one] há { $count } hora
       *[other] há { $count } horas
    }
days-ago =
    { $count ->
        [one] há { $count } dia
       *[other] há { $count } dias
    }
hidden =
    { $count ->
        [one] Há mais uma sessão que não é mostrada.
       *[other] Há mais { $count } sessões que não são mostradas.
    }
end = Terminar e iniciar sessão
cancel = Cancelar
unfit =
    { $needed ->
        [one] Escolha uma sessão.
       *[other] Escolha { $needed } sessões.
    }
failed = Não foi possível terminar todas as sessões. Tente novamente.
continue-title = Um momento
continue-text = Vai voltar ao início de sessão.
continue = Continuar
stopped-title = Não é possível usar esta página
invalid = O endereço desta página não é válido. Volte à aplicação e inicie sessão novamente.
expired = Esta página expirou. Volte à aplicação e inicie sessão novamente.
elsewhere = Esta página foi aberta noutro navegador ou noutra janela. Volte à aplicação e inicie sessão novamente.
done = Esta página já foi usada. Continue, ou volte à aplicação e inicie sessão novamente.
worn-out = Esta página foi usada demasiadas vezes. Volte à aplicação e inicie sessão novamente.
impossible = Neste momento não é possível terminar nenhuma das suas sessões. Termine a sessão no seu outro dispositivo e tente novamente.
unavailable = Neste momento não é possível mostrar as suas sessões. Tente novamente.
retry = Tentar novamente
