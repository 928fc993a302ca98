title = Ya ha iniciado sesión en otro lugar
intro =
    { $needed ->
        [one] Para iniciar sesión aquí, cierre una de sus otras sesiones.
       *[other] Para iniciar sesión aquí, cierre { $needed } de sus otras sesiones.
    }
intro-marked =
    { $marked ->
        [one] Al menos una de ellas debe llevar la marca «{ mark }».
       *[other] Al menos { $marked } de ellas deben llevar la marca «{ mark }».
    }
mark = Esta aplicación
legend = Sus sesiones
device = { $browser } en { $system }
unknown-browser = Navegador desconocido
unknown-device = Dispositivo desconocido
last-used = Último uso: { $ago }
began = Inicio de sesión: { $ago }
now = ahora mismo
minutes-ago =
    { $count ->
        [one] hace 1 minuto
       *[other] hace { $count } minutos
    }
hours-ago =
    { $count ->
        [one] hace 1 hora
       *[other] hace { $count } horas
    }
days-ago =
    { $count ->
        [one] hace 1 día
       *[other] hace { $count } días
    }
hidden =
    { $count ->
        [one] Hay otra sesión que no se muestra.
       *[other] Hay otras { $count } sesiones que no se muestran.
    }
end = Cerrar e iniciar sesión
cancel = Cancelar
unfit =
    { $needed ->
        [one] Elija una sesión.
       *[other] Elija { $needed } sesiones.
    }
failed = No se han podido cerrar todas las sesiones. Inténtelo de nuevo.
continue-title = Un momento
continue-text = Va a volver al inicio de sesión.
continue = Continuar
stopped-title = Esta página no se puede usar
invalid = La dirección de esta página no es válida. Vuelva a la aplicación e inicie sesión de nuevo.
expired = Esta página ha caducado. Vuelva a la aplicación e inicie sesión de nuevo.
elsewhere = Esta página se ha abierto en otro navegador o en otra ventana. Vuelva a la aplicación e inicie sesión de nuevo.
done = Esta página ya se ha usado. Continúe, o vuelva a la aplicación e inicie sesión de nuevo.
worn-out = Esta página se ha usado demasiadas veces. Vuelva a la aplicación e inicie sesión de nuevo.
impossible = Ahora no se puede cerrar ninguna de sus sesiones. Cierre la sesión en su otro dispositivo e inténtelo de nuevo.
unavailable = Sus sesiones no se pueden mostrar en este momento. Inténtelo de nuevo.
retry = Reintentar
